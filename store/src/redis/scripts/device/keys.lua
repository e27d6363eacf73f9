-- Whether a mark is that of the current key (none is zeros) or of the next one.
local function is_marked(d, mark, following)
  local current = sub(d.identity, 9, 16)
  if current == '' then return mark == NO_LINEAGE end
  return mark == current or mark == (following and sub(following, 1, 8))
end
