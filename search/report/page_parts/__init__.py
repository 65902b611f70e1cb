"""The parts of a page, and how they become HTML (`html_page`) or text (`text_forms`). `inputs` shows the question."""
