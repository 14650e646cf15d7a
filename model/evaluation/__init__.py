"""Success rate and progress score: trials in simulation, open-loop error, and statistics that make both credible."""
