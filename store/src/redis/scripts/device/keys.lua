-- The current public key; empty for a plain device. A mac may stand behind it.
local function current_key(identity)
  return #identity >= 40 and sub(identity, 9, 40) or ''
end

-- Whether a mark is that of the current key (none is zeros) or of the next one.
local function is_marked(d, mark, following)
  local current = current_key(d.identity)
  if current == '' then return mark == NO_LINEAGE end
  return mark == sub(current, 1, 8) or mark == (following and sub(following, 1, 8))
end
