"""Step `subset`: fewer of the packed training episodes, for a study of how much data is needed."""
