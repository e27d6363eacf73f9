-- current and next public key, each may be empty; their macs, likewise
local d = load()
local session, epoch = '', 0
if not d then
  d = { identity = '\0' .. pack('>I7', now({})) }
elseif d.seat and current_key(d.identity) ~= ARGV[1] then
  -- Whoever is attached proved the current key: another one ends the session.
  session, epoch = d.seat, d.epoch
  leave(d)
  save(d)
end
call('HSET', KEY, 'i', sub(d.identity, 1, 8) .. ARGV[1] .. ARGV[3])
if ARGV[2] ~= '' then
  call('HSET', KEY, 'n', ARGV[2] .. ARGV[4])
else
  call('HDEL', KEY, 'n')
end
return { d.seen and 1 or 0, session, epoch }
