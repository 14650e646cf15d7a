"""The step that moves an alias to a version, on evidence, and what moves it by hand."""
