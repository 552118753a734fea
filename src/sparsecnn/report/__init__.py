"""How that is said: words, tables, charts, Markdown, HTML, in several languages."""
