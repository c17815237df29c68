"""What `segcli predict` does, a file a step: read ahead (`reading`), draw (`pictures`), remember (`journal`), write
labels and tables from what is remembered (`labels`, `tables`); `files` calls them."""
