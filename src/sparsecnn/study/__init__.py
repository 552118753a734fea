"""From metrics to claims, figures and the report; needs no torch."""
