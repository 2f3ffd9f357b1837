"""Published and analysis tables -> one self-contained `report.html`."""

from ptharness.report.page import REPORT_FILE, write_report

__all__ = ["REPORT_FILE", "write_report"]
