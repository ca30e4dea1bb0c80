"""Tasks over public data sets, one per file; each reads its Hub data set, or the same tables from a local place."""
