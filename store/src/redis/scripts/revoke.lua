local d = load()
if not d then return { 1 } end
local session = d.seat or ''
if d.seat then leave(d) end
save(d, 'i', '\1' .. sub(d.identity, 2))
return { 0, session, d.epoch }
