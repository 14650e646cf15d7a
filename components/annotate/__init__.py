"""The step `annotate`: episodes cut into atomic actions, with their sentences."""
