-- The generation that a sequence was assigned in; nil when it is not remembered.
local function generation_of(d, sequence)
  local g = d.generations
  for at = #g - 13, 1, -14 do
    local generation, first = unpack('>I7I7', g, at)
    if first <= sequence then return generation end
  end
  if sequence >= d.first and sequence <= d.last then
    return (unpack('>I7', call('LINDEX', QUEUE, sequence - d.first), 2))
  end
  return nil
end

-- The last sequence whose id is at or below the pair.
local function last_upto(d, generation, sequence)
  local g, next_first = d.generations, d.last + 1
  for at = #g - 13, 1, -14 do
    local known, first = unpack('>I7I7', g, at)
    if known == generation then return max(first - 1, min(sequence, next_first - 1)) end
    if known < generation then return next_first - 1 end
    next_first = first
  end
  -- Older than what is remembered: the entries that are left know theirs.
  local upto = d.first - 1
  for _, entry in ipairs(next_first > d.first and call('LRANGE', QUEUE, 0, next_first - d.first - 1) or {}) do
    local known = unpack('>I7', entry, 2)
    if known > generation or (known == generation and upto + 1 > sequence) then break end
    upto = upto + 1
  end
  return upto
end
