"""Pages: searches and studies as one self-contained HTML file each, and as notebooks show them."""
