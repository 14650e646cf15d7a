"""`python -m model.vla.parity DIR`: this policy against numbers that the released code produced."""
