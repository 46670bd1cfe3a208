"""Measured costs: the profile of a device, and the cost model that prefers it to formulas."""
