"""The manual: pages in Markdown, shown by `rxtasks manual`. Their blocks are run by the tests."""
