"""The step `evaluate`: success rate and progress score of a bundle, against its baselines, with intervals."""
