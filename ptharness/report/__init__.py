"""Published and analysis tables -> one self-contained `report.html`."""
