"""What is right: plain NumPy in float64, written from the equations.

These modules import nothing but NumPy, so that they share no code, and no mistake, with what they judge.
"""
