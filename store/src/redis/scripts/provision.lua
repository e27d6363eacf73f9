-- current and next public key, each may be empty
local d = load()
local session, epoch = '', 0
if not d then
  d = { identity = '\0' .. pack('>I7', now({})) }
  call('HSET', KEY, 'i', d.identity .. ARGV[1])
else
  -- Whoever is attached proved the current key: another one ends the session.
  if d.seat and sub(d.identity, 9) ~= ARGV[1] then
    session, epoch = d.seat, d.epoch
    leave(d)
    save(d)
  end
  call('HSET', KEY, 'i', sub(d.identity, 1, 8) .. ARGV[1])
end
if ARGV[2] ~= '' then
  call('HSET', KEY, 'n', ARGV[2])
else
  call('HDEL', KEY, 'n')
end
return { d.seen and 1 or 0, session, epoch }
