"""Data: patients' samples with their splits, from whatever source, dealt to sites and checked."""
