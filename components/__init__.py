"""The steps of the pipelines, one folder each, and the services they need."""
