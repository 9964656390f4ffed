"""Layers of causal video networks; x is float `N C T H W`.

What looks along T is `step(x, state, call) -> (y, new_state)`, the rest is `forward`.
"""
