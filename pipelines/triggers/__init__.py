"""What starts a run by itself: data that arrives, a notification of a bucket, a tag: one run for each digest of it.

They decide what is to run, `pipelines.cluster` sees to it that it runs once.
"""
