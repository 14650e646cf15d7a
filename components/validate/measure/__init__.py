"""Measurements of one episode, a file a concern: `EpisodeSummary` rows are filled here and judged elsewhere."""
