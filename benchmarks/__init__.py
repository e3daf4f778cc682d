"""Every number of the documents has its command here."""
