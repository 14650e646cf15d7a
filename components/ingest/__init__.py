"""The step `ingest`: an existing LeRobot dataset becomes the first artefact of a run."""
