"""Measuring operators: single-operator models that cover a network, and their times on this machine."""
