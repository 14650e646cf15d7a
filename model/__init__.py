"""The policy: architecture, data, training, simulation and evaluation. Knows no pipeline tool."""
