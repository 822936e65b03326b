"""What editors see of uploads: the page "Upload files" of folders, and the field of a file on add and edit forms."""
