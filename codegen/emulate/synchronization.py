"""stub"""
def find_races(f,l,v): return []
def grid_at(f,l,v): return (1,1,1)
