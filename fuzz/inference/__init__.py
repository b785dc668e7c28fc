"""Inference of operator rules from calls: what arguments must satisfy, and the shapes that result.

``python -m graphopt.fuzz.inference`` writes and checks the file of rules; docs/rule_inference.md
describes the method.
"""
