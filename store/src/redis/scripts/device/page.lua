local PAGE = 16384
-- Bytes before the payload, by an entry's kind.
local HEADS = { 19, 35, 27, 43 }

-- Appends the first entries behind the pair to a reply: sequence, bytes, .... They count as offered.
-- Returns 1 when more wait behind them.
local function page(d, reply, generation, sequence, limit)
  local at, len, taken = max(last_upto(d, generation, sequence) + 1, d.first), 0, 0
  while at <= d.last do
    local chunk = call('LRANGE', QUEUE, at - d.first, at - d.first + min(limit, 32))
    for _, entry in ipairs(chunk) do
      if sub(entry, 1, 1) ~= TOMB then
        len = len + #entry - HEADS[string.byte(entry, 1)]
        if taken >= limit or (len > PAGE and taken > 0) then return 1 end
        taken = taken + 1
        reply[#reply + 1] = at
        reply[#reply + 1] = entry
        d.offered = max(d.offered, at)
      end
      at = at + 1
    end
  end
  return 0
end
