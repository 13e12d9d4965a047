"""What the parts cost, as ratios between variants that take turns in one run; each figure stands beside its target."""
