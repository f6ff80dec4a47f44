"""A training as pictures: a page of HTML, a timeline, a panel in the terminal."""

from shmps.report.summary import write_report
from shmps.report.timeline import write_trace

__all__ = ["write_report", "write_trace"]
