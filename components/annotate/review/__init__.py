"""The review of annotations by a person: a page in the browser, and Label Studio."""
