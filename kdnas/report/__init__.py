"""A finished run as tables and pages."""

from kdnas.report.tables import Table, describe, front_table, preflight_table

__all__ = ["Table", "describe", "front_table", "preflight_table"]
