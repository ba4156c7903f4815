"""Help on the commands inside a conversation."""

COMMANDS_HELP = """in the conversation:
  /lens             say which lens is used
  /lens LENS        use another (as --lens); show the last reply under it
  /layer ROW        show a row's likeliest tokens below the last reply
  /save FILE.html   write the page of the conversation: every row and position
  /new              start a new conversation
  /help, /quit      show these lines; end (also Ctrl-D)
Ctrl-C stops a reply; the conversation continues with the part already written.
"""
