"""How a network runs call by call: its state as a value, and the layers' part in it."""
