"""Step `study`: the evaluations of a study's policies, joined: figures, the law they follow, a page."""
