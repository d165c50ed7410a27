"""Reports of an evaluation: tables, plots, verdicts and self-contained HTML pages."""
