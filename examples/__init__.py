"""The sample corpus: one author's notes as a blog, a folder and a repository, in two states."""
