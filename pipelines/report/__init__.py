"""The report of a run: one HTML page that needs nothing beside itself."""

from pipelines.report.page import write_report

__all__ = ["write_report"]
