"""One function a command of the command line: what each does, without the printing."""
