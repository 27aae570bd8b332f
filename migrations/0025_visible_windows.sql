-- Views of closed windows look up what was replaced by the hour. Before, each row went through all replacements.
{{again 22}}
