-- Everything up to the pair is final: says the session of this epoch, or a cursor (0).
local function trim(d, generation, sequence, epoch)
  local sure = epoch ~= 0 and epoch == d.sure_epoch and d.sure or 0
  local upto = min(last_upto(d, generation, sequence), d.last)
  local count = upto - d.first + 1
  if count > 0 then
    if d.waiting == d.last - d.first + 1 and d.first > d.doubt then
      d.waiting = d.waiting - count
    else
      for i, entry in ipairs(call('LRANGE', QUEUE, 0, count - 1)) do
        if sub(entry, 1, 1) ~= TOMB then
          d.waiting = d.waiting - 1
          local ended = d.first + i - 1
          if ended <= d.doubt and ended > sure then remember(d, unpack('>I7', entry, 2), ended, 0, 0) end
        end
      end
    end
    call('LTRIM', QUEUE, count, -1)
    d.first = upto + 1
  end
  settle(d)
end
