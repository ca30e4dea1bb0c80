"""Tasks over public data sets; each reads its Hub data set, or the same tables from a local place."""
