"""Records to produce: encoded from columns, and written in whole record batches."""
