"""Exact effort: optima that are proved, and bounds, by CP-SAT and mixed-integer programming.

OR-Tools is imported where a solver runs, nowhere else (`solver.py`).
"""
