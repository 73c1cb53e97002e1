"""Figures from plain rows and records; one module per subject, one style."""
