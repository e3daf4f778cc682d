"""Crawl: from sources to the warehouse, with manners."""
