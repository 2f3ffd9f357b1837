"""Published and analysis tables -> one self-contained `report.html`."""

from ptharness.report.page import write_report

__all__ = ["write_report"]
