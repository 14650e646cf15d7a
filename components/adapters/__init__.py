"""One file for each thing outside: storage, the model registry, data versions, the APIs of a cluster."""
