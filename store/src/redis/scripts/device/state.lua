local OUTCOME_AGE = 86400000

-- State of a message, as in layout.rs: kind, code.
local function state(d, generation, sequence)
  if sequence > d.last then return 0, 0 end
  if sequence >= d.first then
    local entry = call('LINDEX', QUEUE, sequence - d.first)
    if sub(entry, 1, 1) ~= TOMB and unpack('>I7', entry, 2) == generation then
      return sequence <= d.offered and 9 or 8, 0
    end
  end
  if generation_of(d, sequence) ~= generation then return 0, 0 end
  local known = call('LRANGE', OUTCOMES, 0, -1)
  local forgotten = unpack('>I7', call('HGET', KEY, 'x') or '\0\0\0\0\0\0\0')
  for _, outcome in ipairs(known) do
    local g, s, at, kind, code = unpack('>I7I7I7I1I2', outcome)
    if at < now(d) - OUTCOME_AGE then
      forgotten = max(forgotten, s)
      call('LPOP', OUTCOMES)
      call('HSET', KEY, 'x', pack('>I7', forgotten))
    elseif g == generation and s == sequence then
      return kind, code
    end
  end
  return sequence <= forgotten and 0 or 10, 0
end
